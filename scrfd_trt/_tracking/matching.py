"""Match expected boxes with detected ones, as columns ``(4, N)``: x1, y1, x2, y2."""

from __future__ import annotations

import numpy as np

from scrfd_trt._tracking.tracks import SMALLEST, Array, Indices, ranges

MAX_DENSE_PAIRS = 1024  # pairs that are compared without looking for near ones first


def overlaps(one: Array, other: Array) -> Array:
    """Return the intersection over union of boxes whose shapes broadcast; 0 for boxes without area."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    np.maximum(sides, 0.0, out=sides)
    both = sides[0] * sides[1]
    own, others = one[2:] - one[:2], other[2:] - other[:2]
    union = own[0] * own[1] + others[0] * others[1]
    union -= both
    both /= np.maximum(union, SMALLEST, out=union)
    return np.asarray(both)


def match(expected: Array, found: Array, minimum: float) -> tuple[Indices, Indices]:
    """Return pairs of expected, the best of alternatives ``(4, A, N)``, and found boxes with the largest overlap."""
    if expected.shape[2] * found.shape[1] <= MAX_DENSE_PAIRS:
        return match_table(overlaps(expected[..., None], found[:, None, None]), minimum)
    rows, columns = _near_pairs(expected, found)
    similarity = overlaps(expected[:, :, rows], found[:, None, columns]).max(axis=0)
    is_similar = similarity >= minimum
    return assign(rows[is_similar], columns[is_similar], similarity[is_similar])


def match_table(overlaps: Array, minimum: float) -> tuple[Indices, Indices]:
    """Do what :func:`match` does with known overlaps ``(A, N, M)``."""
    table = overlaps.max(axis=0) if len(overlaps) > 1 else overlaps[0]
    rows, columns = (table >= minimum).nonzero()
    return assign(rows, columns, table[rows, columns])


def _near_pairs(expected: Array, found: Array) -> tuple[Indices, Indices]:
    """Return all pairs that overlap, and some that do not."""
    low, high = expected[:2].min(axis=1), expected[2:].max(axis=1)
    order = found[0].argsort()
    starts, ends = found[0][order], np.maximum.accumulate(found[2][order])
    rows, places = ranges(ends.searchsorted(low[0], "right"), starts.searchsorted(high[0]))
    columns = order[places]
    is_near = (found[1][columns] < high[1][rows]) & (found[3][columns] > low[1][rows])
    return rows[is_near], columns[is_near]


def assign(rows: Indices, columns: Indices, similarity: Array) -> tuple[Indices, Indices]:
    """Return those of the pairs with the largest total similarity that have no row or column in common."""
    if len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows):
        return rows, columns
    # Whatever replaces such a pair is worth less.
    is_sure = similarity > _second_best(rows, similarity) + _second_best(columns, similarity)
    is_open = np.bincount(rows, is_sure)[rows] + np.bincount(columns, is_sure)[columns] == 0
    if not is_open.any():
        return rows[is_sure], columns[is_sure]
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - comes with the extra, and is slow to import

    known_rows, row_places = np.unique(rows[is_open], return_inverse=True)
    known_columns, column_places = np.unique(columns[is_open], return_inverse=True)
    table = np.zeros((len(known_rows), len(known_columns)))
    table[row_places, column_places] = similarity[is_open]
    chosen = linear_sum_assignment(table, maximize=True)
    is_pair = table[chosen] > 0.0
    return (
        np.concatenate([rows[is_sure], known_rows[chosen[0][is_pair]]]),
        np.concatenate([columns[is_sure], known_columns[chosen[1][is_pair]]]),
    )


def _second_best(groups: Indices, values: Array) -> Array:
    """Return the second largest value of its group, or 0, for each largest value; infinity for all others."""
    order = np.lexsort((values, groups))
    in_order, found, second = groups[order], np.zeros(len(values)), np.empty(len(values))
    is_smaller = in_order[:-1] == in_order[1:]
    np.copyto(found[1:], values[order][:-1], where=is_smaller)
    found[:-1][is_smaller] = np.inf
    second[order] = found
    return second


def take_best(similarity: Array, minimum: float) -> tuple[list[int], list[int]]:
    """Give each row, in order, the most similar column that no earlier row took; return the pairs."""
    rows, columns = [], []
    for row in (similarity.max(axis=1, initial=0.0) >= minimum).nonzero()[0].tolist():
        column = int(similarity[row].argmax())
        if similarity[row, column] >= minimum:
            similarity[:, column] = -1.0
            rows.append(row)
            columns.append(column)
    return rows, columns
