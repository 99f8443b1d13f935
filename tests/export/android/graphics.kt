// Stand-ins for the classes of Android that the generated Kotlin code calls, for a compiler on a desktop. Written
// after their documentation; `Bitmap` is an array of colours.
package android.graphics

open class Bitmap(val width: Int, val height: Int, val colors: IntArray) {
    enum class Config { ARGB_8888, HARDWARE }

    val config: Config? = Config.ARGB_8888
    fun hasAlpha(): Boolean = false
    fun copy(config: Config, isMutable: Boolean): Bitmap = this
    fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        colors.copyInto(pixels)
    }

    companion object {
        fun createBitmap(width: Int, height: Int, config: Config): Bitmap = throw NotImplementedError()
        fun createBitmap(
            source: Bitmap, x: Int, y: Int, width: Int, height: Int, matrix: Matrix?, filter: Boolean
        ): Bitmap = throw NotImplementedError()
    }
}

class BitmapFactory {
    class Options {
        var inPreferredConfig: Bitmap.Config? = null
    }

    companion object {
        fun decodeByteArray(data: ByteArray, offset: Int, length: Int, options: Options): Bitmap? = null
    }
}

class Paint

class Canvas(bitmap: Bitmap) {
    fun drawColor(color: Int) {}
    fun drawBitmap(bitmap: Bitmap, left: Float, top: Float, paint: Paint?) {}
}

object Color {
    const val WHITE = -1
}

class Matrix {
    fun postScale(x: Float, y: Float): Boolean = true
    fun postRotate(degrees: Float): Boolean = true
}
