"""Fields, filter trees and their SQL."""
