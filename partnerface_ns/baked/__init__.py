"""The avatar precomputed for fast image sequences.

`BakedAvatar` renders images that are close to exact ones and many times as fast. It may import `training` and every
package before that.
"""
