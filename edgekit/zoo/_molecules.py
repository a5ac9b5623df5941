"""Molecules with conjugated bonds, and the energies of their electrons by Hueckel's method.

A molecule is a graph: atoms of carbon, nitrogen or oxygen, bonds of two lengths. Its pi electrons
move in a matrix with an energy on the diagonal for each atom and one beside it for each bond
(Hueckel, 1931; Streitwieser, Molecular Orbital Theory for Organic Chemists, 1961). The eigenvalues
are the orbitals' energies; two electrons fill each one from below. The gap between the highest
that is filled and the lowest that is not is what light has to bring, in units of the bond
energy of benzene. So the labels are physics, though the molecules are drawn at random.

What is held out goes by the orbitals' energies, which do not depend on the order of the atoms: no
molecule to learn on is one of the others, numbered in another way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from zlib import crc32

import numpy as np

from edgekit.spec import Array, Feeds

__all__ = ["ATOMS", "BONDS", "FARTHEST", "PATH", "Molecules", "molecules"]

#: Beside carbon: how much lower an electron's energy is there (pyridine's and carbonyl's).
_LOWER = np.array([0.0, 0.0, 0.51, 0.97])
#: Of a long bond and of a short one, as in butadiene.
_STRENGTH = np.array([0.0, 0.9, 1.1])
_SHARES = (0.7, 0.2, 0.1)
#: Kinds of atoms and of bonds, 0 for none.
ATOMS, BONDS = len(_LOWER), len(_STRENGTH)
_SIZES = (6, 8, 10, 12)
_LARGEST = max(_SIZES)
#: The largest distance, and the first bonds of a path that are told.
FARTHEST, PATH = _LARGEST - 1, 5


@dataclass(frozen=True, slots=True)
class Molecules:
    """Molecules of one size.

    ``atoms`` (n, nodes), ``distances`` (n, nodes, nodes) in bonds, ``paths`` (n, nodes, nodes, 5),
    the kinds of the bonds on the shortest path; all int8. ``gap`` (n,) float32.
    """

    atoms: Array
    distances: Array
    paths: Array
    gap: Array

    def feeds(self, chosen: Array | slice) -> Feeds:
        """The inputs for some of them, int64."""
        inputs = {"atoms": self.atoms, "distances": self.distances, "paths": self.paths}
        return {name: array[chosen].astype(np.int64) for name, array in inputs.items()}


@cache
def molecules(count: int, *, held_out: bool) -> tuple[Molecules, ...]:
    """That many of each size, always the same. One in eight that could be drawn is held out."""
    generator = np.random.default_rng(int(held_out))
    return tuple(_told(*_chosen(count, size, generator, held_out=held_out)) for size in _SIZES)


def _chosen(
    count: int, size: int, generator: np.random.Generator, *, held_out: bool
) -> tuple[Array, Array]:
    kept: list[tuple[Array, Array]] = []
    while sum(len(atoms) for atoms, _ in kept) < count:
        atoms, bonds = _drawn(count, size, generator)
        told = np.rint(_energies(atoms, bonds) * 1e4).astype(np.int64)
        mine = np.array([(crc32(row.tobytes()) % 8 == 0) is held_out for row in told])
        kept.append((atoms[mine], bonds[mine]))
    atoms, bonds = (np.concatenate(parts)[:count] for parts in zip(*kept, strict=True))
    return atoms, bonds


def _drawn(count: int, size: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Atoms (count, size) and bonds (count, size, size): a tree, then up to two rings closed.

    An atom has three bonds at most.
    """
    atoms = generator.choice(np.arange(1, ATOMS), (count, size), p=_SHARES)
    bonds = np.zeros((count, size, size), np.int64)
    rows = np.arange(count)

    def join(new: Array, *, rings: bool) -> None:
        score = generator.random((count, size))
        free = (bonds > 0).sum(2) < 3
        if rings:
            wanted = free & (bonds[rows, new] == 0) & (np.arange(size) != new[:, None])
            wanted &= (free[rows, new] & (generator.random(count) < 0.7))[:, None]
        else:
            wanted = free & (np.arange(size) < new[:, None])
        old = np.where(wanted, score, -1.0).argmax(1)
        kind = generator.integers(1, BONDS, count) * wanted.any(1)
        made = wanted.any(1)
        bonds[rows[made], new[made], old[made]] = kind[made]
        bonds[rows[made], old[made], new[made]] = kind[made]

    for atom in range(1, size):
        join(np.full(count, atom), rings=False)
    for _ in range(2):
        join(generator.integers(0, size, count), rings=True)
    return atoms, bonds


def _energies(atoms: Array, bonds: Array) -> Array:
    """Of the orbitals (n, size), ascending."""
    energies: Array = np.linalg.eigvalsh(
        _STRENGTH[bonds] + np.eye(atoms.shape[1]) * _LOWER[atoms][:, None]
    )
    return energies


def _told(atoms: Array, bonds: Array) -> Molecules:
    size, energies = atoms.shape[1], _energies(atoms, bonds)
    gap = energies[:, size // 2] - energies[:, size // 2 - 1]
    distances = _distances(bonds > 0)
    paths = _paths(bonds, distances).astype(np.int8)
    return Molecules(
        atoms.astype(np.int8), distances.astype(np.int8), paths, gap.astype(np.float32)
    )


def _distances(joined: Array) -> Array:
    size = joined.shape[1]
    own = np.broadcast_to(np.eye(size, dtype=bool), joined.shape)
    distances = np.where(own, 0, size).astype(np.int64)
    reached = own
    for distance in range(1, size):
        further = (reached.astype(np.float32) @ (joined | own).astype(np.float32)) > 0
        distances[further & ~reached] = distance
        reached = further
    return distances


def _paths(bonds: Array, distances: Array) -> Array:
    """The bonds on a shortest path from each atom to each other one, the first five."""
    nearer = distances[:, None, :, :] == distances[:, :, None, :] - 1  # (n, from, over, to)
    following = ((bonds > 0)[:, :, :, None] & nearer).argmax(2)
    count, size, _ = bonds.shape
    rows, ends = np.arange(count)[:, None, None], np.arange(size)[None, None, :]
    here = np.broadcast_to(np.arange(size)[None, :, None], distances.shape)
    paths = np.zeros((*distances.shape, PATH), np.int64)
    for step in range(PATH):
        there = following[rows, here, ends]
        on_path = distances > step
        paths[..., step] = np.where(on_path, bonds[rows, here, there], 0)
        here = np.where(on_path, there, here)
    return paths
