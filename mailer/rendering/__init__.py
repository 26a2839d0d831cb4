"""Turn a Markdown issue into the bytes of each message. Pure: no database, no network.

An issue passes through these steps, in this order:

1. `source.read_issue` reads the file and checks the front matter.
2. `source.content.read_content` fills in the values that all readers share and parses the Markdown.
3. `html.body.MailBody` draws the body; `html.part.html_part` puts it into the frame and inlines the styles.
4. `text.part.text_part` writes the plain-text part from the same tokens.
5. `build.build_edition` freezes the result as an `Edition`, with Jinja only where subscribers differ.
6. `message.Composer` composes the edition for one recipient after another.

`templating` contains both stages of Jinja, and `lint` checks the result.
"""
