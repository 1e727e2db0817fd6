.PHONY: check test slow format tables

check:  ## what continuous integration runs besides the tests
	ruff check .
	ruff format --check .
	codespell mmbert encoders tasks tests recipes docs benchmarks README.md CONTRIBUTING.md CHANGELOG.md
	pyright

test:  ## the suite, under six minutes on two cores
	python -m pytest -n auto --dist worksteal

slow:  ## the slow proofs
	python -m pytest -m slow

format:
	ruff format .
	ruff check --fix .

tables:  ## write the tables in README.md and docs/ again from results/*.csv
	python -m benchmarks.tables
