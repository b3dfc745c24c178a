"""How a run is asked for, started, resumed and stopped."""
