"""What the outputs of an animation say about their origin: a note in the metadata, and signed content credentials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from megaportraits.media.credentials import Credentials
from megaportraits.media.provenance import Origin, synthetic_note
from megaportraits.media.staging import Sign
from megaportraits.pipeline.avatar import Avatar


@dataclass(frozen=True)
class Marks:
    """What outputs say about their origin.

    Attributes:
        note: for the metadata; None: no note.
        sign: signs the result; None: it is not signed.
        sign_beside: signs pictures that show the source and the driver too, such as the side-by-side output.
    """

    note: str | None
    sign: Sign | None
    sign_beside: Sign | None

    @classmethod
    def of(
        cls,
        avatar: Avatar,
        source: str | Path,
        credentials: Credentials | None,
        *,
        flat: bool = False,
        mark: bool = True,
    ) -> Marks:
        """The marks of one animation.

        Args:
            avatar: the model.
            source: the photograph or video of the person.
            credentials: None: nothing is signed.
            flat: whether the result shows the rendered head alone, without a background from the source or driver.
            mark: whether there is a note.
        """
        note = synthetic_note(avatar.name) if mark else None
        if credentials is None:
            return cls(note, None, None)
        alone, beside = (
            credentials.signer(Origin(avatar.name, avatar.files, Path(source), composite))
            for composite in (False, True)
        )
        return cls(note, alone if flat else beside, beside)
