"""The ground everything stands on: clock, identifiers, limits, the error catalogue; pure, imports nothing of ours."""
