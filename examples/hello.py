"""A small training run that leaves files as real ones do: in many folders, again and again.

    grid run examples/hello.py
    grid run examples/hello.py --lr "[0.05, 0.02, 0.01]" --epochs 12

Nothing here knows of Gridkeep: it is an ordinary script, and `python examples/hello.py` writes the same files.
It fits a line to the points of `hello_input.txt` by gradient descent, and lasts about three seconds.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
Line = tuple[float, float]  # slope, offset


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit a line; leave files everywhere.")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()

    source = HERE / "hello_input.txt"
    points = read_points(source)
    outputs, checkpoints = Path("outputs"), Path("checkpoints")
    (outputs / "plots" / "by epoch").mkdir(parents=True, exist_ok=True)
    checkpoints.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="hello-"))  # outside the working directory

    line: Line = (0.0, 0.0)
    losses: list[float] = []
    for epoch in range(1, options.epochs + 1):
        line = step(line, points, options.lr)
        losses.append(loss(line, points))
        print(f"epoch {epoch}/{options.epochs}  loss {losses[-1]:.4f}", flush=True)

        with open(outputs / "train.log", "a") as log:  # a log that grows
            log.write(f"{epoch}\t{losses[-1]:.6f}\n")
        save_by_rename(checkpoints / "last.json", {"epoch": epoch, "line": line})
        if losses[-1] == min(losses):
            save_in_place(checkpoints / "best.json", {"epoch": epoch, "line": line})
        write_plot(outputs / "plots" / "by epoch" / f"{epoch:03}.svg", losses)
        (scratch / "gradient.txt").write_text(f"{epoch} {line}\n")
        time.sleep(0.3)

    write_predictions(outputs / "predictions.csv", line, points)
    write_plot(outputs / "plots" / "100% of it & more.svg", losses)
    with open(source, "a") as file:  # an input of the project, changed: the run's own copy of it
        file.write(f"# fitted with a learning rate of {options.lr}: {line[0]:.3f} x + {line[1]:.3f}\n")
    print(f"slope {line[0]:.3f}, offset {line[1]:.3f}, loss {losses[-1]:.4f}; scratch files in {scratch}")


def read_points(path: Path) -> list[Line]:
    rows = [row.split() for row in path.read_text().splitlines() if not row.startswith("#")]
    return [(float(x), float(y)) for x, y in rows]


def step(line: Line, points: list[Line], rate: float) -> Line:
    """One step of gradient descent on the mean squared error."""
    slope, offset = line
    errors = [(x, slope * x + offset - y) for x, y in points]
    by_slope = sum(2 * x * error for x, error in errors) / len(points)
    by_offset = sum(2 * error for _, error in errors) / len(points)
    return slope - rate * by_slope, offset - rate * by_offset


def loss(line: Line, points: list[Line]) -> float:
    return sum((line[0] * x + line[1] - y) ** 2 for x, y in points) / len(points)


def save_by_rename(path: Path, state: dict[str, object]) -> None:
    """The careful way: readers see the old checkpoint or the new one."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(state))
    os.replace(draft, path)


def save_in_place(path: Path, state: dict[str, object]) -> None:
    """The common way: the same file, written over."""
    with open(path, "r+" if path.exists() else "w") as file:
        json.dump(state, file)
        file.truncate()


def write_predictions(path: Path, line: Line, points: list[Line]) -> None:
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["x", "y", "predicted"])
        table.writerows((x, y, round(line[0] * x + line[1], 3)) for x, y in points)


def write_plot(path: Path, losses: list[float]) -> None:
    """The losses so far as a picture that a browser shows."""
    wide, high = 320, 120
    across, up = wide / max(1, len(losses) - 1), high / max(losses)
    curve = " ".join(f"{i * across:.1f},{high - value * up:.1f}" for i, value in enumerate(losses))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {wide + 8} {high + 8}">'
        f'<polyline points="{curve}" fill="none" stroke="teal" stroke-width="2"/></svg>\n'
    )


if __name__ == "__main__":
    main()
