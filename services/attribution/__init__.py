"""The attribution service: who gets the credit for conversions."""
