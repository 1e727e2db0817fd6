.PHONY: check test slow docs format tables wheel

check:  ## what continuous integration runs besides the tests
	ruff check .
	ruff format --check .
	codespell mmbert encoders tasks tests examples recipes docs benchmarks README.md CONTRIBUTING.md CHANGELOG.md
	pyright

test:  ## the suite, under six minutes on two cores
	python -m pytest -n auto --dist loadfile

slow:  ## the slow proofs
	python -m pytest -m slow

docs:  ## the documentation as a site in site/; needs the extra "docs"; no page may load anything from elsewhere
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="?(https?:)?//' --include='*.html' site

wheel:  ## the source distribution and the wheel in dist/
	python -m build

format:
	ruff format .
	ruff check --fix .

tables:  ## write the tables in README.md and docs/ again from results/*.csv
	python -m benchmarks.tables
