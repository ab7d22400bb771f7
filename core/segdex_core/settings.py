"""Settings, built once from the environment and the command line, then passed as values."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from segdex_core.choices import Device, ProfileName, ViewMode
from segdex_core.locations import LOOPBACK, embedded_folder, index_location, server_address, service_address
from segdex_core.media.limits import MAX_BYTES, MAX_PIXELS

ModelPrecision = Literal["fp32", "bf16", "fp16"]
"""On a CPU, bf16 is fast with matrix units (Intel AMX), and five times slower than fp32 without them."""

Precision = Literal["auto", ModelPrecision]
LogFormat = Literal["auto", "text", "json"]


class Settings(BaseSettings):
    """All settings, also read from environment variables ``SEGDEX_<NAME>``. Instances are immutable.

    ``deploy/.env.example`` lists all settings; a test compares it with this class.
    """

    model_config = SettingsConfigDict(
        env_prefix="SEGDEX_",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # it may be a password
    )

    profile: ProfileName | None = Field(
        None, description="Models: default (SAM 2.1, SigLIP 2) or offline; unset: what filled the index."
    )
    index: str = Field(
        "edge:segdex-index", description="Where the index is: a folder, edge:PATH or http(s)://HOST:PORT."
    )
    index_api_key: SecretStr | None = Field(None, description="API key of the Qdrant server.")
    index_grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="gRPC port of the Qdrant server; unset: the HTTP port plus 1."
    )
    index_timeout_s: float = Field(30.0, gt=0, le=3600, description="Seconds to wait for the server.")
    index_collection: str = Field(
        "segdex", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Prefix of the collections on a server."
    )
    server: str | None = Field(
        None, description="A segdex service to ask instead of an index here: http(s)://HOST:PORT."
    )
    server_key: SecretStr | None = Field(None, description="API key of that service.")
    device: Device = Field("auto", description="auto takes CUDA where there is one.")
    precision: Precision = Field(
        "auto",
        description="auto: bf16 on CUDA, and for SAM 2 on a CPU with AMX; else fp32. fp16 needs CUDA.",
    )
    compile_models: bool = Field(
        default=False,
        description="Compile SAM 2's encoder: faster after a first minute or more; needs a C++ compiler.",
    )
    segmenter: str | None = Field(
        None,
        description="A name of `segdex models list`, a hub name, folder or .pt file; sam2:NAME: Meta's code.",
    )
    embedder: str | None = Field(
        None,
        description="Another embedder: a name of `segdex models list`, or MODEL:PRETRAINED of open_clip.",
    )
    views: ViewMode = Field(
        "crops",
        description="What an ingest embeds: crops, two for each segment; pooled: one pass over each picture.",
    )
    refiner: str | None = Field(
        None,
        description="EVF-SAM2 for refining: a name of `segdex models list`, hub name or folder; unset: none.",
    )
    encodings_mib: int = Field(
        512, ge=0, le=1 << 20, description="Memory for encoded pictures that are kept for the next question."
    )
    encodings_dir: Path | None = Field(
        None, description="Folder for encoded pictures that later commands go on with; unset: none."
    )
    encodings_dir_mib: int = Field(2_048, ge=1, description="Room for them on the disk.")
    api_keys: Path | None = Field(
        None, description="File of API keys, as `segdex keys` prints its lines; unset: loopback without keys."
    )
    rate_per_minute: int = Field(600, ge=1, description="Requests a minute for each API key.")
    max_upload_bytes: int = Field(50_000_000, ge=1, description="Uploads with more bytes are refused.")
    max_waiting: int = Field(64, ge=1, description="Calls that wait for the models; further ones get a 503.")
    uploads: Path | None = Field(
        None, description="Folder for uploaded pictures; unset: pictures cannot be uploaded."
    )
    job_roots: tuple[Path, ...] = Field(
        (), description="Folders whose pictures jobs may ingest, as a JSON list; none: no jobs."
    )
    max_jobs: int = Field(1_000, ge=1, description="Jobs that wait; further ones get a 429.")
    jobs_file: Path | None = Field(
        None, description="SQLite file of the queue of jobs; unset: in the user's cache folder."
    )
    jobs_redis: SecretStr | None = Field(
        None, description="Redis server for the queue instead: redis://[:PASSWORD@]HOST:PORT/NUMBER."
    )
    jobs_by: Literal["service", "worker"] = Field(
        "service", description="Who carries jobs out: the service itself, or `segdex worker` beside it."
    )
    log_format: LogFormat = Field(
        "auto", description="Log of the service: text, json, or auto: text at a terminal, else JSON lines."
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Pictures with more pixels are too large.")
    max_bytes: int = Field(MAX_BYTES, ge=1, description="Files with more bytes are too large.")
    decode_threads: int = Field(2, ge=1, le=64, description="Threads that read and decode ahead.")
    decode_processes: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Pictures decoded at a time, in processes with limits; unset: cores, at most 4; 0: none.",
    )
    decode_memory_mib: int = Field(
        4_096,
        ge=512,
        le=1 << 20,
        description="Memory for decoding one picture; one that needs more is too large.",
    )
    decode_cpu_s: int = Field(
        60,
        ge=1,
        le=3_600,
        description="CPU seconds for decoding one picture; one that takes more is unreadable.",
    )
    decode_wall_s: float = Field(
        600.0, gt=0, le=86_400, description="Seconds by the clock, after which decoding counts as hanging."
    )
    analysis_threads: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Pictures segmented at a time, with one copy of the models; unset: cores, at most 4.",
    )
    cache_dir: Path | None = Field(
        None,
        description="Models of package registries, and checksums of all; unset: the user's cache.",
    )

    @field_validator("index")
    @classmethod
    def _index_in_one_form(cls, given: str) -> str:
        return _location(index_location, given)

    @field_validator("server")
    @classmethod
    def _server_in_one_form(cls, given: str | None) -> str | None:
        return None if given is None else _location(service_address, given)

    def index_key(self) -> str:
        """Return 16 hexadecimal digits that identify the index, however its location is spelled.

        Storage that several indexes share, such as a file of job queues, uses these digits as the key of an
        index. Links, relative paths and trailing slashes lead to the same digits, and so do ``localhost`` and
        the loopback addresses. A service and its workers must use the same host name otherwise: two host
        names of one machine count as two indexes. A place that each machine has for itself, such as a folder
        or ``localhost``, has the same digits on all of them.
        """
        folder = embedded_folder(self.index)
        if folder is not None:
            place = str(folder.resolve())
        else:
            address = server_address(self.index)
            name = address.host.strip("[]")
            host = "localhost" if name in LOOPBACK else name
            place = f"{address.scheme}://{host}:{address.port}#{self.index_collection}"
        return sha256(place.encode()).hexdigest()[:16]


def _location(parse: Callable[[str], str], given: str) -> str:
    """Return a location in its one form; the error has a type of its own, as the text may hold a password."""
    try:
        return parse(given)
    except ValueError as error:
        raise PydanticCustomError("location", "{problem}", {"problem": str(error)}) from error
