"""One link of the chain a file, from a file's bytes to the text it writes; `why` walks them."""
