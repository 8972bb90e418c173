from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blemish.distributed.tree import Tree


@given(leaves=st.integers(1, 70), seed=st.randoms())
def test_any_order_of_arrival_gives_one_root_of_all_leaves_in_order(leaves: int, seed) -> None:
    order = list(range(leaves))
    seed.shuffle(order)
    tree: Tree[list[int]] = Tree(leaves)
    for leaf in order:
        assert tree.root is None
        level, place, node = 0, leaf, [leaf]
        while pair := tree.add(level, place, node):
            level, place, node = pair.level, pair.place, pair.left + pair.right
            assert node == list(tree.below(level, place))
    assert tree.root == list(range(leaves))


@given(leaves=st.integers(1, 70), seed=st.randoms())
def test_the_same_nodes_are_merged_whatever_the_order(leaves: int, seed) -> None:
    def shape(order: list[int]) -> str | None:
        tree: Tree[str] = Tree(leaves)
        for leaf in order:
            level, place, node = 0, leaf, str(leaf)
            while pair := tree.add(level, place, node):
                level, place, node = pair.level, pair.place, f"({pair.left} {pair.right})"
        return tree.root

    order = list(range(leaves))
    seed.shuffle(order)
    assert shape(order) == shape(list(range(leaves)))


def test_few_nodes_wait_if_the_leaves_come_in_order() -> None:
    tree: Tree[int] = Tree(1000)
    waiting = 0
    for leaf in range(1000):
        level, place = 0, leaf
        while pair := tree.add(level, place, 1):
            level, place = pair.level, pair.place
        waiting = max(waiting, len(tree._waiting))
    assert waiting <= 10
