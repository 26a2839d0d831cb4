"""Turn a Markdown issue into the bytes of each message. Pure: no database, no network.

An issue passes through these packages in order: `source` reads it and fills in what all readers share,
`html` and `text` draw the two parts, `build` freezes them as an `Edition`, and `message` composes the edition
for one recipient after another. `templating` is shared by both stages of Jinja; `lint` checks the result.
"""
