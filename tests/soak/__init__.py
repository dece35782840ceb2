"""A whole shift in minutes: the real encoder, recorder, journal and card, with everything going wrong that can."""
