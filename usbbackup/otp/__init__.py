"""Processes, supervisors, a registry and worker pools, with OTP's names and OTP's promises, on asyncio."""
