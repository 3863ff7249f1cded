"""What panels ask and get: requests, payload values, target questions and data frames."""
