"""Modules of others, beside the code as SAM puts them."""

import jinja2
import requests
import yaml


def handler(event, context):
    things = yaml.safe_load(event["things"])
    page = jinja2.Template("{% for thing in things %}<li>{{ thing | e }}{% endfor %}").render(things=things)
    url = requests.Request("GET", "https://example.org/", params={"q": things[0]}).prepare().url
    return {"page": page, "url": url, "from": yaml.__file__}
