"""`alignlaunch init STAGE`: a starter job file that fits this machine and the model, where these can be asked."""
