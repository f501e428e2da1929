"""Other engines, measured beside this one."""
