"""The sentence frames of captions.

`{a}` to `{d}` stand for the objects in a shuffled order, `{the_a}` for a second mention; `{ab}`
for a relation true of a seen from b; `{on}` for the background, told or left out; `{ground}` for
the background told for certain. A frame's fixed words appear in no other frame in the same
places, so captions from two frames always differ.
"""

# Naming only: for any number of objects.
LIST_FRAMES = (
    "{all}{on}",
    "{count} shapes{on}: {all}",
    "a picture of {all}{on}",
    "{all} are drawn{on}",
    "{ground}, you can see {all}",
    "{count} shapes {ground}, namely {all}",
    "the picture shows {all}{on}",
    "{all} have been painted {ground}",
)

# Naming and placing, by the number of objects.
RELATION_FRAMES = {
    2: (
        "{a} {verb} {ab} {b}{on}",
        "{ground}, {a} {verb} {ab} {b}",
        "{a} with {b} {ba} it{on}",
        "there is {a} {ab} {b}{on}",
        "{a} has been placed {ab} {b}{on}",
        "{ab} {b} there is {a}{on}",
        "an image of {a} that {verb} {ab} {b}{on}",
        "{a} can be seen {ab} {b}{on}",
        "someone drew {a} {ab} {b}{on}",
    ),
    3: (
        "{a} {verb} {ab} {b}, and {c} {other_verb} {cb} {the_b}{on}",
        "{ground}, {a} {verb} {ab} {b} while {c} {other_verb} {ca} {the_a}",
        "{a}, {b} and {c}, with {the_a} {ab} {the_b}{on}",
        "{a} with {b} {ba} it and {c} {ca} it{on}",
        "there is {a} {ab} {b} as well as {c}{on}",
        "{a} has been placed {ab} {b}, and {c} {cb} {the_b}{on}",
        "{ab} {b} there is {a}, and {ca} {the_a} there is {c}{on}",
        "{count} shapes{on}: {a}, {b} {ba} {the_a}, and {c} {ca} {the_a}",
        "{a} {verb} {ab} {b} in a picture that also shows {c}{on}",
        "besides {c}, someone drew {a} {ab} {b}{on}",
    ),
    4: (
        "{a} {verb} {ab} {b}, and {c} {other_verb} {cd} {d}{on}",
        "{ground}, {a} {verb} {ab} {b} while {c} {other_verb} {cd} {d}",
        "{a}, {b}, {c} and {d}, with {the_a} {ad} {the_d}{on}",
        "{a} with {b} {ba} it, together with {c} and {d}{on}",
        "there is {a} {ab} {b}, and there is {c} {cd} {d}{on}",
        "besides {c} and {d}, someone drew {a} {ab} {b}{on}",
        "{ab} {b} there is {a}, and {cd} {d} there is {c}{on}",
        "{count} shapes{on}: {a}, {b}, {c}, and {d} {da} {the_a}",
        "{a} has been placed {ab} {b}, and {c} {cd} {d}{on}",
        "a picture that pairs {a} {ab} {b} with {c} {cd} {d}{on}",
    ),
}
