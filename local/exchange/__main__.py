"""Run the local exchange: `python -m local.exchange --port 8900`."""

import argparse
import asyncio
import signal
import sys

from aiohttp import web

from local.exchange.clock import Clock
from local.exchange.exchange import Exchange
from local.exchange.server import make_app
from local.exchange.timeframes import utc_ms


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit code, 1 when the port cannot be had."""
    args = _parse(argv)
    clock = Clock(frozen_at=args.now)
    exchange = Exchange(args.symbols, args.weight_limit, args.seed, clock, args.ban_after)
    try:
        asyncio.run(_serve(exchange, args.host, args.port))
    except OSError as error:
        reason = error.strerror or error
        print(
            f"The local exchange cannot listen on {args.host}:{args.port} ({reason}); "
            "choose another with --port.",
            file=sys.stderr,
        )
        return 1
    return 0


async def _serve(exchange: Exchange, host: str, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    runner = web.AppRunner(make_app(exchange), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        url = f"http://{host}:{runner.addresses[0][1]}"
        print(f"The local exchange listens on {url} (control: {url}/_local/)", flush=True)
        await stopped.wait()
    finally:
        await runner.cleanup()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.exchange",
        description="A deterministic stand-in for the exchange's market data API, faults included.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=_port, required=True, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--symbols", type=_symbols, default=500, help="how many are listed")
    parser.add_argument("--weight-limit", type=int, default=6000, help="weight of a minute per IP")
    parser.add_argument(
        "--ban-after", type=int, default=10, help="refusals in a minute that lead to a ban"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed is another history")
    parser.add_argument("--now", type=_moment, help="freeze the clock: ISO 8601 or epoch ms")
    return parser.parse_args(argv)


def _symbols(text: str) -> int:
    count = int(text)
    if not 20 <= count <= 5000:
        raise argparse.ArgumentTypeError("from 20 to 5000")
    return count


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError("from 0 to 65535")
    return port


def _moment(text: str) -> int:
    return int(text) if text.isdecimal() else utc_ms(text)


if __name__ == "__main__":
    sys.exit(main())
