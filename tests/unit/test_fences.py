"""The reader of Markdown pages that the snippets' test depends on."""

from __future__ import annotations

import pytest

from support.fences import Fence, prints, python_fences

PAGE = """
# Title

Text with `code`.

```python
print(1)
```

<!-- output -->
```
1
```

<!-- not run: needs a server -->

```python
serve()
```

<!-- not run: said of something else -->
A sentence between.

```bash
pip install cloacina
```

<!-- postgres -->
```python
connect()
```

* a list

  ```python
  if True:
      print("in a list")
  ```

````python
'''
```
'''
````
"""


def test_python_blocks_are_found_with_what_the_page_says_of_them() -> None:
    assert python_fences(PAGE) == [
        Fence(7, "print(1)\n", None, "1\n"),
        Fence(18, "serve()\n", "needs a server"),
        Fence(30, "connect()\n", postgres=True),
        Fence(36, 'if True:\n    print("in a list")\n'),
        Fence(41, "'''\n```\n'''\n"),
    ]


@pytest.mark.parametrize("page", ["```python\nprint(1)\n", "<!-- output -->\n```\n1\n```\n"])
def test_a_broken_page_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="line"):
        python_fences(page)


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("1\n2\n", "1  \n2\n\n", True),
        ("done in ...s (...)", "done in 0.1s (3 tasks)", True),
        ("first\n...\nlast", "first\na\nb\nlast", True),
        ("1", "11", False),
        ("1.5", "1x5", False),
        ("", "something", False),
    ],
)
def test_printed_text_is_compared(expected: str, printed: str, same: bool) -> None:
    assert prints(expected, printed) is same
