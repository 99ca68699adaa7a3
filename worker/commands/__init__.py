"""What each command does, and shows on the terminal.

=========  ==========================================================
run        `onboard run`, `onboard retry`: from a file to its reports
check      `onboard check`: everything but the sending
status     `onboard status`, `report`, `ledger`: what the ledger knows
decisions  `onboard pause`, `cancel`, `approve`, `resolve`, `show`
aftercare  `onboard follow-up`, `audit`, `ledger tidy`
doctor     `onboard doctor`: is everything there that a run needs?
rehearse   `onboard rehearse`: a whole run against the simulator
=========  ==========================================================
"""
