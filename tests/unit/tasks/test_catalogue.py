from __future__ import annotations

from pathlib import Path

import pytest

from tasks.elepay.catalogue import load_catalogue
from tasks.errors import SettingsError


def test_the_catalogue_knows_what_elepay_documents() -> None:
    catalogue = load_catalogue()
    assert len(catalogue.methods) == 53  # 52 of the documented edition and ezopay
    assert {"auto", "ezopay", "creditcard", "wechatpay"} <= catalogue.methods
    assert catalogue.resources == {"web", "ios", "android", "liff", "mini", "cpm", "mpm", "reader", "posapp"}
    assert catalogue.source_methods == {
        *("creditcard", "paidy", "paypay", "merpay", "aupay", "docomopay", "alipayplus", "wechatpay")
    }
    assert "auto" not in catalogue.source_methods


def test_every_method_stands_in_one_list_and_every_need_names_known_words() -> None:
    catalogue = load_catalogue()
    lists = [catalogue.holds_sources, catalogue.holds_sources_after_application, catalogue.holds_no_sources]
    assert sum(map(len, lists)) == len(catalogue.methods)
    for need in catalogue.needs:
        assert need.methods <= catalogue.methods
        assert need.resources <= catalogue.resources
        assert need.key in catalogue.known_extra_keys
        assert len(need.key) <= 20


def test_needs_depend_on_method_and_resource() -> None:
    catalogue = load_catalogue()
    keys = {
        pair: [need.key for need in catalogue.needs_of(*pair)]
        for pair in [("wechatpay", "mini"), ("alipayplus", "web")]
    }
    assert keys == {("wechatpay", "mini"): ["openid"], ("alipayplus", "web"): ["frontUrl", "userAgent"]}
    assert [need.required for need in catalogue.needs_of("wechatpay", "mini")] == [True]
    assert catalogue.needs_of("creditcard", "ios") == ()


def test_settings_add_values_and_lift_a_method() -> None:
    catalogue = load_catalogue(["newpay", "linepay"], ["watch"])
    assert {"newpay", "linepay"} <= catalogue.source_methods
    assert "linepay" not in catalogue.holds_no_sources
    assert "watch" in catalogue.resources


def test_a_file_is_laid_over_the_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text(
        'resources = ["watch"]\nholds_sources = ["newpay", "paypay"]\n'
        '[[extra]]\nmethods = ["newpay"]\nkeys = ["wrist"]\nrequired = true\n'
    )
    catalogue = load_catalogue(file=file)
    assert {"newpay", "paypay", "creditcard"} <= catalogue.holds_sources
    assert "paypay" not in catalogue.holds_sources_after_application
    assert [(need.key, need.required) for need in catalogue.needs_of("newpay", "watch")] == [("wrist", True)]


@pytest.mark.parametrize(
    "content",
    [
        "resources = [",
        'resources = "web"',
        "holds_sources = [1]",
        "methods = []",
        "[[extra]]\nmethods = []",
        "[[extra]]\nkeys = ['a']\nrequired = 'yes'",
        "[[extra]]\nkeys = ['a']\nsurprise = 1",
        "known_extra = []",
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "more.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"more\.toml"):
        load_catalogue(file=file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read"):
        load_catalogue(file=tmp_path / "none.toml")
