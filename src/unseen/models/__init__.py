"""The networks of the paper, and a few more to test with.

A model belongs here if it is built by name; masks and training know nothing of it.
"""

from unseen.models.paper import build, cct, mlp, vgg11
