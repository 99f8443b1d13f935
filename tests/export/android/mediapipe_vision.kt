package com.google.mediapipe.tasks.vision.core

enum class RunningMode { IMAGE, VIDEO, LIVE_STREAM }

class ImageProcessingOptions {
    class Builder {
        fun setRotationDegrees(degrees: Int): Builder = this
        fun build(): ImageProcessingOptions = ImageProcessingOptions()
    }

    companion object {
        fun builder(): Builder = Builder()
    }
}
