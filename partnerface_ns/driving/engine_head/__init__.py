"""An avatar as a rigged, textured mesh for other engines: surface, texture, blendshapes, GLB file and HTML page."""
