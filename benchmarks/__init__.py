"""Programs behind the claims: each writes a result file with its command, versions and machine."""
