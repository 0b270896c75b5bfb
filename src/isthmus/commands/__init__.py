"""Commands: direct methods, cloud-to-device messages and their feedback."""
