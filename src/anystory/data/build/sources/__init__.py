"""Where candidates come from: one small class per way in which people keep pictures."""
