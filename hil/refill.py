"""Say what the syringes of a hardware bench hold: the one way in which a book of stocks gets more."""

from collections.abc import Sequence
from pathlib import Path

from hil.bench import bench_document
from hil.experiment.bench_file import BenchFile
from hil.locks import locked_bench
from hil.stock_book import book_of_bench
from hil.stock_book import refill as book


def refill(bench: str, stocks: Sequence[str], data: Path) -> list[str]:
    """Book ``PUMP=VOLUME`` of bench file ``bench`` in the data folder ``data``; sentences about what is booked.

    Raises ConfigError for what cannot be, BackendError while the bench is in use, RecordError.
    """
    document = bench_document(bench)
    model = document.model(BenchFile)
    addresses = [instrument.address for instrument in model.station.instruments.values()]
    # A program that runs has the book in its hands.
    with locked_bench(addresses, "a refill", model.notebook.operator):
        return book(model, book_of_bench(data, document.path.name), stocks)
