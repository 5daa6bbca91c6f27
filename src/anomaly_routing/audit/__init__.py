"""What can be said of a paper without running it: counts, calendar, chance, equations, shapes. No prices, no model."""
