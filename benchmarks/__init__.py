"""Scripts behind the numbers that README.md and docs/ show."""
