"""One entry a claim: functions and declarative tables, by what they read. All modules here are found by themselves."""
