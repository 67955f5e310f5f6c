"""What the browser tests of the page share."""

FAST = {"estimator": "turnover", "hidden": (64,), "epochs": 3, "batch_size": 32}
ATTACK = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


def counted(page):
    return int(page.text_content("#count").split()[0].replace(",", ""))


def shown_ids(page):
    return [page.evaluate("i => document.querySelectorAll('.card')[i].querySelector('.id').textContent", i) for i in range(cards(page))]


def cards(page):
    return page.locator(".card").count()
