"""Classes of values as donjon makes them do what those of the standard library do."""

import copy
import dataclasses
import pickle
from typing import ClassVar

import pytest

from donjon.records import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    name: str
    tags: list[str] = field(default_factory=list)
    seen: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer(Named):
    length: int = 1

    def __repr__(self):
        return "a longer one"


@dataclass(slots=True)
class Open:
    value: int = 1


@dataclass(slots=True, eq=False)
class Single:
    value: int = 1


class Outer:
    @dataclass(frozen=True, slots=True)
    class Inner:
        value: int


@dataclass(frozen=True, slots=True)
class Marked:
    mark: ClassVar[bool] = False
    number: int


@dataclass(frozen=True, slots=True)
class Remarked(Marked):
    mark: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    name: str
    code: bytes = field(repr=False)


def test_a_class_inside_another_keeps_its_name():
    assert repr(Outer.Inner(1)) == "Outer.Inner(value=1)"
    assert pickle.loads(pickle.dumps(Outer.Inner(1))) == Outer.Inner(1)


def test_fields_are_given_by_place_by_name_or_by_default():
    assert Point(1, names=("a",)) == Point(x=1, y=0, names=("a",))
    assert (Point(1, 2).x, Point(1, 2).y, Point(1, 2).names) == (1, 2, ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Point, r"Point\(\) lacks x"),
        (lambda: Point(1, 2, (), 4), r"Point\(\) takes 3 values by position and was given 4"),
        (lambda: Point(1, x=2), r"Point\(\) was given x twice"),
        (lambda: Point(1, z=2), r"Point\(\) has no field z"),
        (lambda: Point(z=2, y=1, names=()), r"Point\(\) has no field z"),
        (lambda: Named("a"), r"Named\(\) takes 0 values by position and was given 1"),
        (lambda: Longer(length=2), r"Longer\(\) lacks name"),
        (lambda: replace(Point(1), z=2), r"Point\(\) has no field z"),
    ],
)
def test_a_call_that_does_not_fit_is_a_type_error(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_factory_makes_a_value_for_each_object():
    assert Named(name="a").tags is not Named(name="a").tags


def test_a_default_that_all_objects_would_share_is_refused():
    with pytest.raises(ValueError, match="use default_factory"):

        @dataclass(slots=True)
        class Shared:
            values: list[int] = []  # noqa: RUF012


def test_frozen_objects_refuse_changes_and_others_do_not():
    with pytest.raises(AttributeError, match="cannot assign to x of Point, which is frozen"):
        Point(1).x = 2
    with pytest.raises(AttributeError, match="cannot delete x of Point, which is frozen"):
        del Point(1).x
    thing = Open()
    thing.value = 2
    assert thing == Open(2)
    with pytest.raises(AttributeError):
        thing.other = 1


def test_equality_is_of_the_same_class_and_the_compared_fields():
    assert Named(name="a", seen=1) == Named(name="a", seen=2)
    assert Named(name="a") != Named(name="b")
    assert Named(name="a") != Longer(name="a")
    assert Single() != Single()


def test_frozen_objects_are_hashed_by_value_and_changeable_ones_not_at_all():
    assert len({Point(1), Point(1), Point(2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Open())
    assert len({Single(), Single()}) == 2


def test_a_subclass_has_the_fields_of_its_base_and_its_own_methods():
    longer = Longer(name="a", tags=["t"], length=3)
    assert (longer.name, longer.tags, longer.length) == ("a", ["t"], 3)
    assert isinstance(longer, Named)
    assert repr(longer) == "a longer one"
    assert repr(Named(name="a")) == "Named(name='a', tags=[], seen=0)"


@pytest.mark.parametrize("value", [Point(1, 2, ("a",)), Longer(name="a", seen=3), Open(5)])
def test_values_survive_pickle_and_copy(value):
    for again in (pickle.loads(pickle.dumps(value, 5)), copy.deepcopy(value), copy.copy(value)):
        assert again == value
        assert type(again) is type(value)


def test_a_replaced_field_leaves_the_others():
    assert replace(Point(1, 2, ("a",)), y=3) == Point(1, 3, ("a",))
    assert replace(Longer(name="a", seen=3), length=2).seen == 3


def test_the_standard_library_takes_them_for_dataclasses():
    assert dataclasses.is_dataclass(Point)
    assert [one.name for one in dataclasses.fields(Longer)] == ["name", "tags", "seen", "length"]
    assert dataclasses.asdict(Point(1, 2)) == {"x": 1, "y": 2, "names": ()}
    assert dataclasses.replace(Point(1, 2), y=3) == Point(1, 3)


def test_a_class_variable_is_no_field_and_may_be_set_anew_below():
    assert (Marked.mark, Remarked.mark) == (False, True)
    assert Marked(1) == Marked(1)
    with pytest.raises(TypeError, match="mark"):
        Marked(1, mark=True)


def test_what_is_not_to_be_shown_is_not_in_the_repr():
    assert repr(Secret(name="a", code=b"x")) == "Secret(name='a')"
