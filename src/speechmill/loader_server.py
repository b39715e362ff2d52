"""Imported first by the process that loader workers are forked from, and by nobody else."""

import speechmill.loader

# A signal to the whole group would end the server, and with it, by torch's look-out for the parent, its workers.
# It ends when the process that trains and all workers have: they hold the other end of its pipe.
speechmill.loader.leave_signals_to_the_parent()
