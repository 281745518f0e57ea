"""Exports: a trained network in the form that another runtime takes, verified there.  `targets` is the door."""
