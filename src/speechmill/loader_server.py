"""Imported first by the process that loader workers are forked from, and by nobody else."""

import speechmill.loader

# A signal to the whole group would end the server, and with it, by torch's look-out for the parent, its workers.
# Its end is that of the process that trains: the pipe between them closes.
speechmill.loader.leave_signals_to_the_parent()
