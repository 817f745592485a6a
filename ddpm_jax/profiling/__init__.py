"""What a run costs: preflight by the compiler, benchmark by the clock."""
