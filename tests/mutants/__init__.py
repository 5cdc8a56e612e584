"""The mutant bench: defects planted one at a time in healthy models, healthy pairs beside them, and a judge.

`models.py` makes the healthy models, `_patient.py` opens one for surgery, `plant_*.py` plant, `catalogue.py` lists every
mutant and `healthy.py` every healthy pair, `judge.py` asks `why` about each and scores its answer.
"""
