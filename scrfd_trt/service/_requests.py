"""What a request brings: image files as a form, as raw bytes, as base64 in JSON, or by their addresses."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from typing import Any, NamedTuple, TypeVar

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from scrfd_trt.errors import ClosedError, DetectionsError, ImageError, OptionError, ScrfdError, one_line
from scrfd_trt.service._addresses import NotAllowedError

_logger = logging.getLogger("scrfd_trt.service")
Model = TypeVar("Model", bound=BaseModel)
DATA_URI = re.compile(r"data:[\w/+.;=-]{0,100},", re.ASCII)
NO_IMAGE = "the request has no image: send a form with a file, the bytes of an image, or JSON"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


class Sources(NamedTuple):
    """The images of a request, in order: contents of files, or their addresses."""

    images: list[bytes | str]
    several: bool = False  # whether the answer is a list
    threshold: float | None = None
    max_faces: int | None = None


class ImagesBody(BaseModel):
    """Images in JSON: one of the four fields."""

    model_config = {"extra": "forbid"}

    image: str | None = Field(None, description="An image file in base64.")
    images: list[str] | None = Field(None, description="Image files in base64.")
    url: str | None = Field(None, description="The address of an image, of a host that the service allows.")
    urls: list[str] | None = Field(None, description="Addresses of images.")
    threshold: float | None = Field(None, ge=0, le=1, description="Minimum score; instead of the query's.")
    max_faces: int | None = Field(None, ge=1, description="Maximum faces of each image; instead of the query's.")

    def sources(self) -> Sources:
        """Return the images; raise HTTPException unless one field is given."""
        given = [each for each in (self.image, self.images, self.url, self.urls) if each is not None]
        if len(given) != 1:
            raise HTTPException(422, "the JSON must have one of: image, images, url, urls")
        several = isinstance(given[0], list)
        texts = given[0] if isinstance(given[0], list) else [given[0]]
        are_files = self.image is not None or self.images is not None
        images = [from_base64(text) if are_files else text for text in texts]
        return Sources(images, several, self.threshold, self.max_faces)


def as_answer(error: BaseException) -> tuple[int, str, dict[str, str]]:
    """Return status, text and headers of the answer to a request that failed."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail), dict(error.headers or {})
    if isinstance(error, (NotAllowedError, OptionError, DetectionsError)):
        return 403 if isinstance(error, NotAllowedError) else 422, str(error), {}
    if isinstance(error, ImageError):
        text = str(error).replace(", or raise max_pixels", "")
        return 413 if "max_pixels" in error.fields else 422, text, {}
    if isinstance(error, (ClosedError, MemoryError)):
        what = "there is not enough memory; try again later" if isinstance(error, MemoryError) else "the service stops"
        return 503, what, {"retry-after": "1"}
    if isinstance(error, ClientDisconnect):  # nobody reads it
        return 400, "the request is incomplete", {}
    what = "the detector failed" if isinstance(error, ScrfdError) else "the request failed"
    _logger.error("%s: %s: %s", what, type(error).__name__, one_line(error))
    return 500, what, {}


def from_base64(text: str) -> bytes:
    """Return the content of a file in base64, also as a data URI; raise HTTPException if it is none."""
    start = DATA_URI.match(text)
    try:
        return base64.b64decode(text[start.end() :] if start else text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: of characters that are not ASCII
        raise HTTPException(422, "the image is not in base64") from error


def parsed(model: type[Model], body: bytes) -> Model:
    """Return a model of a JSON body; raise RequestValidationError where it is invalid."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in items]) from error


def parsed_sources(body: bytes) -> Sources:
    """Return the images of a JSON body."""
    return parsed(ImagesBody, body).sources()


async def form_files(request: Request, max_files: int, max_bytes: int) -> Sources:
    """Return the files of a form, which stay in memory; raise HTTPException for other forms."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=max_files, max_fields=8)
    for name in ("spool_max_size", "max_file_size"):  # by the release of Starlette
        setattr(parser, name, max_bytes)
    try:
        form = await parser.parse()
        files = [await each.read() for _, each in form.multi_items() if isinstance(each, UploadFile)]
    except (MultiPartException, KeyError, ValueError, AssertionError) as error:  # without a boundary, or broken
        reason = f": {error.message}" if isinstance(error, MultiPartException) else ""
        raise HTTPException(400, f"the form is invalid{reason}") from error
    finally:
        opened: list[Any] = getattr(parser, "_files_to_close_on_error", [])
        for file in opened:  # also those of parts that did not end
            file.close()
    return Sources(list(files), several=len(files) > 1)


def described(*, several: bool) -> dict[str, Any]:
    """Return the request body for OpenAPI, with examples."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    file = {"type": "array", "items": {"type": "string", "format": "binary"}} if several else binary["schema"]
    form = {"schema": {"type": "object", "required": ["image"], "properties": {"image": file}}}
    examples: dict[str, Any] = {"base64": {"value": {"image": PIXEL}}}
    examples["address"] = {"value": {"url": "https://images.example.com/group.jpg"}}
    if several:
        examples["several"] = {"value": {"images": [PIXEL, PIXEL], "threshold": 0.3}}
    body = {"schema": ImagesBody.model_json_schema(), "examples": examples}
    content = {"multipart/form-data": form, "application/json": body}
    content |= dict.fromkeys(("image/jpeg", "image/png", "application/octet-stream"), binary)
    return {"requestBody": {"required": True, "content": content}}
