"""Requests and answers of panels: requests, payload values, target questions and data frames."""
