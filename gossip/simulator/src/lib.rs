//! Members in a simulated world of bad networks and stalling processes, checked at each step.
