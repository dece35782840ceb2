"""Button, lights, buzzer and vibration over gpiozero."""
