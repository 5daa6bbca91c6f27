"""The claims ledger: claim -> computation that decides it -> our value -> verdict by rules written beforehand.

`verdict` judges a finding, `sources` reads what the stages left, `deciders` hold one entry a claim, `build` puts
all of it in one table, `page` shows it.
"""
