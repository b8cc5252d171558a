"""Training clips from single photographs and a morphable head; no video corpus needed."""
