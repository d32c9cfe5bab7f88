"""What templates call: filters, highlighting and drawings."""
