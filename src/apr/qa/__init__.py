"""Judging one model: how gates work (`gate`), and the gates, one a file in `gates`."""
