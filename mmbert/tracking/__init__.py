"""Run folder, status, console, trackers, ledger."""
