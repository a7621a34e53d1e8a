"""Pictures and quality flags of one prepared measurement, drawn for people who look before they read."""
