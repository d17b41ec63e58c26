"""HTML as text: what a reader sees, within bounds, whatever stands in the page."""

from __future__ import annotations

import pytest

from cloche.agents.toolkit.html_text import html_to_text

BASE = "https://example.org/dir/page"


def text_of(page: str) -> str:
    return html_to_text(page, BASE).text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<h2>One</h2><p>two<br>three</p>", "## One\n\ntwo\nthree"),
        ("a  <b>b</b>\n c", "a b c"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>d", "- a\n  - b\n- c\n\nd"),
        ("<a href='../x?a=1&amp;b=2'>link</a>!", "[link](https://example.org/x?a=1&b=2)!"),
        ("<a href='javascript:alert(1)'>no</a> <a href='#top'>top</a>", "no top"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\n1 | 2"),
        ("<pre>x = 1\n  y</pre>z", "```\nx = 1\n  y\n```\n\nz"),
        ("<img alt='a cat' src=x>", "[image: a cat]"),
        ("<script>if (a < b) '</p>'</script>x<style>p{}</style>y", "xy"),
        ("<svg/>after<svg><text>in</text></svg>", "after"),
        ("a < b &lt; c &amp;amp;", "a < b < c &amp;"),
        ("x<!-- no --><!doctype html><?php no ?>y", "xy"),
        ("<p title='a > b'>x</p>", "x"),
        ("x<p class='never closed", "x"),
        ("<!-- never closed <p>x", ""),
        ("<script>never closed <p>x", ""),
    ],
)
def test_a_page_reads_like_what_a_person_sees(page: str, text: str) -> None:
    assert text_of(page) == text


def test_the_title_is_apart_from_the_text() -> None:
    read = html_to_text("<title> A &amp;\n B </title><p>x", BASE)

    assert (read.title, read.text, read.cut) == ("A & B", "x", False)


def test_a_long_page_is_cut_and_says_so() -> None:
    read = html_to_text("<p>word " * 10_000, BASE, max_chars=1000)

    assert len(read.text) == 1000
    assert read.cut


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", "<a href='", "<!--", "</", "<script>", "<a href=x>", "<p>", "&#", "<svg/>", "<td>", "<li><ul>"],
)
def test_a_page_of_nothing_but_markup_is_read_in_one_bounded_pass(piece: str) -> None:
    page = piece * (1_000_000 // len(piece))

    assert len(html_to_text(page, BASE).text) <= 40_000
